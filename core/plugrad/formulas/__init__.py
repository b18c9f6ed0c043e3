"""Formulas that are exact and finite in every data type, for the components of anybody."""
