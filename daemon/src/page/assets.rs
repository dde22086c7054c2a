//! stub
pub(crate) struct Asset {
    pub(crate) path: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) gzip: &'static [u8],
    pub(crate) etag: &'static str,
}
pub(crate) const HAS_PLAYERS: bool = false;
pub(crate) fn find(_path: &str) -> Option<&'static Asset> {
    None
}
impl Asset {
    pub(crate) fn plain(&self) -> Vec<u8> {
        Vec::new()
    }
}
