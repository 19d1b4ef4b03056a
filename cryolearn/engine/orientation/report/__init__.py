"""Tables, maps and figures of training and recovery."""
