"""Networks that the harness makes: their first weights, the same for every backend."""
