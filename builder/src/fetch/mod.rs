//! Downloads into the content-addressed cache: resume, retry, several at once, verified before they get a name.
