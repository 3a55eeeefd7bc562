"""How fast the API is, beside other ways of writing it: `./run_dev.sh benchmark`."""
