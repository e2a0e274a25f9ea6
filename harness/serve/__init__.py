"""A model over HTTP: its predictions, attacked images and saliency maps, one request at a time."""
