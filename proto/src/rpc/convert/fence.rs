//! Fences.

use super::InvalidField;
use crate::fence::{Fence, LeaderId, Led, Obeyed, Offer, SignedFence};
use crate::rpc;

/// ECDSA signatures over P-256 have at most 72 bytes.
const SIGNATURE_BYTES: usize = 128;

impl From<Led> for rpc::Fence {
    fn from(led: Led) -> Self {
        let Led { fence: Fence { epoch, leader }, mark } = led;
        Self { epoch, leader: leader.0.to_vec(), signature: Vec::new(), mark }
    }
}

impl From<&SignedFence> for rpc::Fence {
    fn from(signed: &SignedFence) -> Self {
        let SignedFence { fence: Fence { epoch, leader }, signature } = signed;
        Self { epoch: *epoch, leader: leader.0.to_vec(), signature: signature.clone(), mark: 0 }
    }
}

impl From<&Obeyed> for rpc::Fence {
    fn from(obeyed: &Obeyed) -> Self {
        Self { mark: obeyed.mark, ..(&obeyed.signed).into() }
    }
}

impl TryFrom<rpc::Fence> for Obeyed {
    type Error = InvalidField;
    fn try_from(wire: rpc::Fence) -> Result<Self, InvalidField> {
        let rpc::Fence { epoch, leader, signature, mark } = wire;
        let size = leader.len();
        let leader = leader
            .try_into()
            .map_err(|_| InvalidField::new("leader", format!("it has {size} bytes instead of 16")))?;
        if signature.len() > SIGNATURE_BYTES {
            return Err(InvalidField::new("signature", format!("it has {} bytes", signature.len())));
        }
        let fence = Fence { epoch, leader: LeaderId(leader) };
        Ok(Self { signed: SignedFence { fence, signature }, mark })
    }
}

impl Offer {
    /// What a coordinator shows; `None` from one that is older than fences.
    pub fn from_welcome(welcome: &rpc::Welcome) -> Result<Option<Self>, InvalidField> {
        let read = |fence: &rpc::Fence, field| Obeyed::try_from(fence.clone()).map_err(|e| e.within(field));
        let Some(fence) = &welcome.fence else { return Ok(None) };
        let Obeyed { signed, .. } = read(fence, "welcome.fence")?;
        if signed.fence.epoch != welcome.epoch {
            return Err(InvalidField::new("welcome.fence.epoch", "it differs from welcome.epoch"));
        }
        let follows = welcome.follows.as_ref().map(|fence| read(fence, "welcome.follows")).transpose()?;
        Ok(Some(Self { signed, follows: follows.map(|follows| follows.led()) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_survive_the_wire_and_others_do_not() {
        let fence = Fence { epoch: 7, leader: LeaderId([9; 16]) };
        let obeyed = Obeyed { signed: SignedFence { fence, signature: vec![1, 2] }, mark: 4 };
        assert_eq!(Obeyed::try_from(rpc::Fence::from(&obeyed)), Ok(obeyed.clone()));
        let short = rpc::Fence { leader: vec![1; 15], ..(&obeyed).into() };
        assert_eq!(Obeyed::try_from(short).unwrap_err().field, "leader");
        let long = rpc::Fence { signature: vec![1; 129], ..(&obeyed).into() };
        assert_eq!(Obeyed::try_from(long).unwrap_err().field, "signature");

        let led = Led { fence: Fence { epoch: 5, ..fence }, mark: 3 };
        let welcome = rpc::Welcome {
            epoch: 7,
            fence: Some((&obeyed.signed).into()),
            follows: Some(led.into()),
            ..Default::default()
        };
        let offer = Offer { signed: obeyed.signed, follows: Some(led) };
        assert_eq!(Offer::from_welcome(&welcome), Ok(Some(offer)));
        assert_eq!(Offer::from_welcome(&rpc::Welcome::default()), Ok(None));
        let two = rpc::Welcome { epoch: 8, ..welcome };
        assert_eq!(Offer::from_welcome(&two).unwrap_err().field, "welcome.fence.epoch");
    }
}
