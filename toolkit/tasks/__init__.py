"""What is asked of a model and how an answer is judged.

A task is one module; its file name is its registry key. Modules that start with `_` are what tasks share:
data files, prompt styles, exemplars, answer extraction, equality.
"""
