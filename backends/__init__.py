"""One file a framework, each imported only when its backend is first used."""
