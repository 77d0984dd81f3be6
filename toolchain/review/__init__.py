"""Pictures that a person should look at, on a local page: into class folders, kept, or set aside."""
