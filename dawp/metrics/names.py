"""Prefixes of the names of metrics."""

GAP = "gap_"  # metrics on the gaps alone
EMA = "ema_"  # metrics of the running mean of outputs
