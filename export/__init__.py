"""What makes a bundle: backbone → IR (needs torch, once), pictures of good parts → bundle (does not)."""

# Sets the limits of OpenCV's decoder, which it reads while it is loaded.
import edge as edge
