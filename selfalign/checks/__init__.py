"""What `selfalign verify` looks at: one module a kind of damage, each a function from a store to findings."""
