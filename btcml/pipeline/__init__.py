"""The verbs: gather inputs, call the pure core, apply the outputs.

Notebooks, command line, API and scheduler all call these, so nothing is computed in two ways.
"""
