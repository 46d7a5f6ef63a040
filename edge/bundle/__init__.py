"""What is taught, as files: `ir` is a network's directory, `bundle` a product's; both are verified as they are read."""
