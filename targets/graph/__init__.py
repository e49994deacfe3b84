"""What the targets that write graphs of tensors share."""
