"""What leaves the toolkit: directories that other engines and libraries load."""
