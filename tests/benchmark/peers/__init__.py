"""The same five routes, written in other ways; each honest and idiomatic."""
