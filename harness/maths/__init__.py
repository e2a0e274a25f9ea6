"""Arithmetic over any backend's arrays, written once: what attacks, maps and checks share."""
