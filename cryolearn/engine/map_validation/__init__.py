"""Validation of maps against atomic models: EMRinger, Q-score, correlations and FSC, with intervals, before and after a treatment.

After Barad et al., *Nature Methods* 12 (2015) 943 (EMRinger) and Pintilie et al., *Nature Methods* 17 (2020) 328 (Q-score).

Entry point: the command ``validate-map``, ``validate_command.run(config)``.
"""
