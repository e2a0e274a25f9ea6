"""Healthy and deliberately broken models and attacks, on scikit-learn's digits."""
