"""From raw video to aligned faces: where the face is, how it is cut out and put back, which frames follow."""
