"""What leaves the house: uploads to the Hub, cards, exported programs."""
