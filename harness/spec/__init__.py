"""What is asked, as plain data: read from TOML, or made by ``evaluate``."""
