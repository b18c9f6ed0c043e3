"""`plugrad report`: a run as one HTML file that needs nothing else, drawn from the records in its folder."""
