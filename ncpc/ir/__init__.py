"""The network as data (policy), one step of it as ops (program), their types, checks and text form."""
