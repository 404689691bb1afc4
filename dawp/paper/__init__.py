"""The paper's tables and figures: each a grid of settings, what is measured, and the paper's own numbers.

``python -m dawp.paper table3`` runs one of them; every run lies in a folder of its own like any other, so that what is
finished is never run again.
"""
