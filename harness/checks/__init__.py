"""What can be wrong with a model, an attack, a saliency map, or a backend; each check alone."""
