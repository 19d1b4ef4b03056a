"""Result files that elastic alignment and prediction share."""
