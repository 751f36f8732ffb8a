"""How good a reasoner is, measured before it is trusted: incident sets, judging, figures with intervals, pages."""
