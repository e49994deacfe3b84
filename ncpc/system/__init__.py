"""What the machine does to a program: files and places, standard streams, interruptions, crashes, slow libraries."""
