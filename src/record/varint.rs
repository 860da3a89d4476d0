//! Zigzag varints, as records use them.
