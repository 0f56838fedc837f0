//! Joining: the code that a server gives out, what both ends say when it is used, and what the client keeps of it.

mod code;
mod contact;
mod first_contact;
mod keep;
mod message;

pub use code::{Code, CodeError, ServerIdentity};
pub use contact::{Heard, Partners, Reply, converse};
pub use first_contact::FirstContact;
pub use keep::{Files, Kept, default_config, keep};
pub use message::{ToClient, ToServer, encode};
