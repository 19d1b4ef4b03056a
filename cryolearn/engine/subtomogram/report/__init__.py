"""Tables, maps and figures of training, classification and averaging."""
