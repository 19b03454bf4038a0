"""What only tests and the harness use: nothing that trains imports it."""
