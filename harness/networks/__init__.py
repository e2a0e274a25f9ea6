"""Networks that the harness makes: their architectures, and their first weights."""
