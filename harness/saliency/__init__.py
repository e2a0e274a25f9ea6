"""Saliency maps, and whether the pixels they name matter."""
