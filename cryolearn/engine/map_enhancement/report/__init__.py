"""Result files of training and enhancement, and the confidence map."""
