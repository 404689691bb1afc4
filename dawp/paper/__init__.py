"""The paper's tables and figures: grids of settings, measures and published values.

``python -m dawp.paper table3`` runs one of them. Each run has its own run folder, so finished fits are never repeated.
"""
