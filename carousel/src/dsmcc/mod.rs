//! DSM-CC data and object carousels (ISO/IEC 13818-6; TR 101 202, TS 102 809, EN 301 192).
//!
//! ```text
//! section ─ Message ─┬ DSI: gateway, or groups ┐
//!                    ├ DII: modules             ├─ Receiver ─ Event::File (path, description, bytes)
//!                    └ DDB: blocks of modules  ┘    │ zlib, BIOP, directories
//! objects ─ Builder ─ modules, DII, DSI ─ sections ─┘
//! ```
//!
//! | file | content |
//! |---|---|
//! | [`message`] | DSI, DII, DDB, module information |
//! | [`biop`] | files, directories, IORs inside modules |
//! | [`describe`] | metadata that our object model adds to a BIOP file |
//! | [`receive`] | sections to modules, from any sender |
//! | `unpack`, `hand_out` | complete modules to named files |
//! | [`names`] | paths of objects by the received directories |
//! | [`delivery`] | interface of the receiver: storage and events |
//! | [`profile`], [`build`] | assignment of objects to modules, and changes |
//! | [`mod@write`] | modules and messages as bytes |
//! | [`signed`] | the signed list of a carousel's contents, in separate sections |
//!
//! Left out: stream events and NPT, carousels of other services (LiteOptions), download scenarios other than the
//! carousel.

pub mod biop;
pub mod build;
pub mod delivery;
pub mod describe;
mod hand_out;
pub mod message;
pub mod names;
pub mod profile;
pub mod receive;
pub mod signed;
mod tree;
mod unpack;
pub mod write;

pub use build::Builder;
pub use delivery::{Event, ModuleStorage, SoleFile};
pub use describe::Description;
pub use profile::{Profile, Shape};
pub use receive::{Receiver, SignatureRequirement};

/// `use` of a Tap to the object itself.
pub const BIOP_OBJECT_USE: u16 = 0x0017;
/// `use` of a Tap to the DII of a module.
pub const BIOP_DELIVERY_PARA_USE: u16 = 0x0016;
/// data_broadcast_id of a data carousel.
pub const DATA_CAROUSEL: u16 = 0x0006;
/// data_broadcast_id of an object carousel.
pub const OBJECT_CAROUSEL: u16 = 0x0007;
/// data_broadcast_id of an HbbTV carousel (TS 102 809).
pub const HBBTV_CAROUSEL: u16 = 0x0123;

/// Data of a full block: the largest that fits a section.
pub const BLOCK_BYTES: u16 = 4066;
