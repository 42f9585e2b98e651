"""Attribution: how far an owner's data is in a response, by interchangeable scorers."""
