// Empty: what all tests include, doctest and triad.h, is compiled once beside this file.
