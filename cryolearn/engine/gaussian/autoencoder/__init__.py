"""An autoencoder from particle images to conformations, kept only when it predicts held-out particles better than the trajectory."""
