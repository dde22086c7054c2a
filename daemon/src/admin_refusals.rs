//! Reasons for which the admin interface refuses requests: counted there, read by metrics.

carousel::reasons! {
    /// Why a request at the admin interface is refused.
    pub enum AdminRefusal in "admin_refused" by "reason" {
        /// It comes without the token or certificate that it needs, or with a wrong one.
        Credential = "credential",
        /// It is a command, or reads more than metrics and health, and comes by TCP without a credential.
        ReadOnly = "read_only",
        /// Its `Host` is not a name of the listener: a name that leads here from elsewhere (DNS rebinding).
        Host = "host",
        /// A web page has sent it: `Origin` or `Sec-Fetch-Site` say so.
        Page = "page",
        /// Its client sends more than it may.
        Rate = "rate",
        /// Its body is in chunks: where a request ends must not be in doubt.
        BadRequest = "bad_request",
        /// Too many connections are open.
        Places = "places",
    }
}
