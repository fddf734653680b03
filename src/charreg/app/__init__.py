"""What a person calls. No stage imports it."""
