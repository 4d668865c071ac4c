"""Validation: what both paths delivered, compared event by event with what was published.

Everything here but the runner is pure: observations in, findings out.
"""
