"""A liquid time-constant network that balances a pole on a cart."""
