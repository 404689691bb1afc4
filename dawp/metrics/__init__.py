"""The paper's metrics, and the processes that compute PESQ."""
