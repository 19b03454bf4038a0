"""Where digits are lost: a loss' ops one by one against float64."""
