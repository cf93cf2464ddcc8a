//! Session factory, views, roles and the HTTP query surface.
