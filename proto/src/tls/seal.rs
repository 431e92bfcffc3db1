//! The signature on a fence, and the random number in it.
//!
//! Every coordinator of a fleet has the agents' CA, and every host knows its certificate: what that key signed, a coordinator
//! of this fleet has said, or one that was started from a copy of its state.

use std::fmt::Write as _;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

use super::ca::certificate_of;
use super::peer::parse;
use super::{Ca, TlsError};
use crate::fence::{Fence, LeaderId, SignedFence};
use crate::id::FleetName;

/// A leader that nobody has drawn before.
pub fn draw_leader() -> Result<LeaderId, TlsError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| TlsError::Random)?;
    Ok(LeaderId(bytes))
}

impl Ca {
    /// Signs a fence, in the name of the fleet's coordinators.
    pub fn sign_fence(&self, fence: Fence) -> Result<SignedFence, TlsError> {
        let signature = self.sign(&statement(self.fleet(), fence))?;
        Ok(SignedFence { fence, signature })
    }

    /// Whether the fleet's coordinators have signed this.
    pub fn has_signed(&self, signed: &SignedFence) -> bool {
        fence_is_signed(self.certificate_pem(), self.fleet(), signed)
    }
}

/// Whether the holder of this CA's key has signed the fence for this fleet.
pub fn fence_is_signed(ca_pem: &str, fleet: &FleetName, signed: &SignedFence) -> bool {
    let Ok(certificate) = certificate_of(ca_pem) else { return false };
    let Ok(certificate) = parse(&certificate) else { return false };
    let key = certificate.public_key().subject_public_key.data.as_ref();
    let statement = statement(fleet, signed.fence);
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(&statement, &signed.signature).is_ok()
}

/// What is signed. It begins as no certificate does, so that none can be taken for the other.
fn statement(fleet: &FleetName, fence: Fence) -> Vec<u8> {
    let mut text = String::from("windlass fence 1\n");
    // Writing to a string cannot fail.
    let _ = write!(text, "{fleet}\n{}\n{}\n", fence.epoch, fence.leader);
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_believed_from_its_fleets_key_and_as_it_was_signed() {
        let ca = Ca::generate("agents", "shop").unwrap();
        let fence = Fence { epoch: 7, leader: draw_leader().unwrap() };
        assert_ne!(draw_leader().unwrap(), fence.leader);
        let signed = ca.sign_fence(fence).unwrap();
        assert!(ca.has_signed(&signed));
        let again = Ca::load(ca.certificate_pem(), ca.key_pem()).unwrap();
        assert!(again.has_signed(&signed), "a copy of the state has the same key");

        let fleet = FleetName::new("shop").unwrap();
        let other = Ca::generate("agents", "shop").unwrap();
        assert!(!other.has_signed(&signed));
        assert!(!fence_is_signed(ca.certificate_pem(), &FleetName::new("news").unwrap(), &signed));
        assert!(!fence_is_signed("garbage", &fleet, &signed));
        let higher = SignedFence { fence: Fence { epoch: 8, ..fence }, ..signed.clone() };
        assert!(!ca.has_signed(&higher));
        for signature in [vec![], vec![0; 72], [signed.signature.clone(), vec![0]].concat()] {
            assert!(!ca.has_signed(&SignedFence { fence, signature }));
        }
    }
}
