"""The machinery that knows no resource: what every resource gets by calling plain functions."""
