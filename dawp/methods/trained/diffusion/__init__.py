"""A diffusion model of recordings, and its sampling for the forward models of the tasks."""
