"""Forward models: how an observation is made from the signal.

A module each. To add one, subclass ``base.Operator``; a task passes it to its ``Problem``.
"""
