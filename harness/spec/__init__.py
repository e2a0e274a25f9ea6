"""What is measured, as plain data: read from TOML, or made by ``evaluate``."""
